"""`make soak`: the whole service under load and faults for long, and a judge of all that its clients were told."""
