"""Tasks: the one seam between networks, data, losses and metrics.

The training loop, launching, records, statistics, charts and reports know a task only through
:class:`~ablations.tasks.task.Task` and its :class:`~ablations.metrics.TaskMetrics`.
"""
