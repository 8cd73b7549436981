"""What the node's viewers are told of jobs: their beginnings and ends. Progress is shown elsewhere."""

from __future__ import annotations

from hali.model.errors import Cancelled
from hali.runtime.activity import Activity
from hali.share.job import Job


class JobTeller:
    """Each job that began is told to have ended in one way, or has not ended: the daemon's end is none of a job."""

    def __init__(self, activity: Activity) -> None:
        self._activity = activity

    def began(self, job: Job) -> None:
        """Somebody works on it, or will when it is its turn."""
        if job.spec.kind == "pull":
            self._activity.tell("pull.started", f"Pulling {job.spec.what}", what=job.spec.what, job=job.spec.id)
        self._activity.changed("jobs")

    def ended(self, job: Job) -> None:
        """It is over; one that the daemon's end interrupts is not, and goes on at the next start."""
        self._activity.changed("jobs")
        if job.result is not None:
            self._done(job, str(job.result["model_id"]), known=bool(job.result.get("from_store")))
        elif job.error is not None and job.spec.kind == "pull":  # who imports waits for it, and is told
            self._gave_up(job)

    def _done(self, job: Job, model: str, *, known: bool) -> None:
        what = job.spec.what
        if job.spec.kind == "pull":
            text = f"{model} was here already" if known else f"{model} is here, verified and shared"
            self._activity.tell("pull.finished", text, what=what, job=job.spec.id, model=model)
        elif not known:
            self._activity.tell("model.added", f"{model} was imported and is shared", model=model)

    def _gave_up(self, job: Job) -> None:
        what = job.spec.what
        if isinstance(job.error, Cancelled):
            self._activity.tell("pull.cancelled", f"The pull of {what} was cancelled", what=what, job=job.spec.id)
        else:
            error = str(job.error)
            self._activity.tell(
                "pull.failed", f"The pull of {what} failed: {error}", what=what, job=job.spec.id, error=error
            )
