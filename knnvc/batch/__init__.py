"""Many files, each a call of `VoiceConverter.convert_file`, in worker processes or on Ray.

The planning layer (`plan`, `journal`, `run`) finds out what is to be done and keeps account of it,
and imports no torch; an engine (`engine.Engine`: `local` processes or `ray`) has the work done by
`worker.Worker`s.

    from knnvc.batch import BatchOptions, convert_batch

    if __name__ == "__main__":  # the worker processes import the script that starts them
        report = convert_batch("takes/", "converted/", ["anna/"], BatchOptions(workers=2))
        print(report.summary)
"""

from __future__ import annotations

from knnvc.batch.plan import BatchOptions
from knnvc.batch.run import Report, Row, convert_batch

__all__ = ["BatchOptions", "Report", "Row", "convert_batch"]
