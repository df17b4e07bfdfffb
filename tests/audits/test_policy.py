import pytest

from audits import policy
from audits.errors import PolicyError


def text(name: str = "research") -> str:
    from importlib import resources

    return (resources.files("audits") / "policies" / f"{name}.toml").read_text("utf-8")


@pytest.mark.parametrize("name", policy.SHIPPED)
def test_shipped_policies_give_a_source_and_a_reason_for_every_number(name: str) -> None:
    loaded = policy.load(name)
    assert loaded.name == name
    for key in policy.RANGES:
        threshold = getattr(loaded.thresholds, key)
        if threshold is not None:
            assert len(threshold.source) > 11
            assert len(threshold.rationale) > 11


def test_the_consortium_is_stricter_than_research() -> None:
    strict, loose = policy.load("consortium").thresholds, policy.load("research").thresholds
    for key in ("epsilon_max", "mu_max", "auc_upper_max"):
        assert getattr(strict, key).value < getattr(loose, key).value


@pytest.mark.parametrize(
    ("old", "new", "told"),
    [
        ("[thresholds.epsilon_max]", "[thresholds.epsilonmax]", "epsilonmax"),
        ("version = 1", "version = 1\nextra = 2", "extra"),
        ("value = 3.0", "value = 3000.0", "epsilon_max = 3000 is not in"),
        ("value = 3.0", 'value = "3"', "Expected `float`"),
        ("value = 3.0", "value = nan", "epsilon_max = nan"),
        ("value = 0.65", "value = 0.4", "auc_upper_max"),
        ('["auditor", "dpo"]', '["auditor"]', "required_signers"),
        ("version = 1", "version = ", "not valid TOML"),
    ],
)
def test_a_mistake_is_named_and_refused(old: str, new: str, told: str) -> None:
    assert old in text()
    with pytest.raises(PolicyError) as caught:
        policy.parse(text().replace(old, new, 1), "mine")
    assert told in str(caught.value)
    assert "policy mine" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_number_without_a_reason_is_refused() -> None:
    lines = text().splitlines()
    del lines[next(i for i, line in enumerate(lines) if line.startswith("rationale"))]
    with pytest.raises(PolicyError, match="rationale"):
        policy.parse("\n".join(lines), "mine")


def test_the_digest_is_of_the_content() -> None:
    loaded = policy.load("research")
    relaid = policy.parse("# another comment\n" + text().replace("value = 3.0", "value   =   3"), "mine")
    assert relaid.digest() == loaded.digest()
    changed = policy.parse(text().replace("value = 3.0", "value = 3.1"), "mine")
    assert changed.digest() != loaded.digest()


def test_an_unknown_name_lists_the_known_ones() -> None:
    with pytest.raises(PolicyError, match="research, consortium"):
        policy.load("lenient")
