"""`haemfed demo`: the whole main job on 1,043 real patients, with real processes, on one machine."""
