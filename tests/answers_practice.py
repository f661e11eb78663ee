"""Right and wrong answers to the exercises on choosing tasks, incomplete data, and running it all."""

ANSWERS = {}  # name: (right answers, near misses)
