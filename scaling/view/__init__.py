"""What was learnt, made visible: video, picture strip, offline player and the HTML report."""

from scaling.view.render import RenderSettings, view_rollout
from scaling.view.report import write_report
from scaling.view.rollout import Rollout

__all__ = ["RenderSettings", "Rollout", "view_rollout", "write_report"]
