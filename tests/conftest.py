from hypothesis import settings

from tests.sweeps import FULL

# No deadlines: machines are shared, and time proves nothing.
settings.register_profile("full", deadline=None)
settings.register_profile("check", max_examples=FULL // 4, deadline=None)  # what `make check` asks for
settings.load_profile("full")
