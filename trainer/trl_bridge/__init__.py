"""The bridge to TRL: `GRPOTrainer` fed with recorded samples, many updates on one model and one optimiser state.

Nothing else imports trl. TRL generates nothing and scores nothing here: one dataset row stands for one recorded
model call, `rollout_func` looks its tokens up, and the recorded advantages replace TRL's. Padding, loss, KL by disabling
the adapter, truncated importance sampling, clipping, accelerate and metrics stay TRL's.

With one optimiser step a batch the old log-probs are the current ones, so the importance ratio is computed in the forward
pass of the loss itself, which saves TRL's separate pass over the batch (a third of the work).
"""

import os

os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
os.environ.setdefault("TRL_EXPERIMENTAL_SILENCE", "1")
os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
# Waiting threads sleep and do not spin: beside an engine on the same cores an update takes a tenth of the time
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

from trainer.trl_bridge.learner import Learner

__all__ = ["Learner"]
