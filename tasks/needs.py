"""Who may run where: the annotation of the first parameter says which tasks a factory or a baseline is made for."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any, get_args

from mdbench.core.errors import Unsupported
from mdbench.tasks.task import Task


def needed_by(factory: Callable[..., Any]) -> Any:
    """The class of tasks that the first parameter is annotated with; None: any task."""
    annotation = next(iter(inspect.signature(factory).parameters.values())).annotation
    if isinstance(annotation, str):
        written: Any = factory
        if isinstance(factory, type):  # perhaps in the module of a class that it derives from
            written = factory.__init__  # type: ignore[misc]
        try:
            annotation = eval(annotation, inspect.unwrap(written).__globals__)
        except Exception:  # names for the type checker alone
            return None
    classes = get_args(annotation) or (annotation,)
    return annotation if all(isinstance(c, type) and issubclass(c, Task) for c in classes) else None


def check_fits(name: str, factory: Callable[..., Any], task: Task) -> None:
    """Raise :class:`Unsupported` unless the task is one that the factory or baseline is annotated with."""
    wanted = needed_by(factory)
    if wanted is not None and not isinstance(task, wanted):
        kinds = " or ".join(c.kind for c in get_args(wanted) or (wanted,))
        raise Unsupported(f"'{name}' needs {kinds}; '{task.name}' is {task.kind}.", label="other tasks")
