"""What a run did and what came of it, as one page that can be sent: `report`."""

from ikem_fast.report.command import report, write_report

__all__ = ["report", "write_report"]
