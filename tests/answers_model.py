"""Right and wrong answers to the exercises on the universal model and its likelihood."""

ANSWERS = {}  # name: (right answers, near misses)
