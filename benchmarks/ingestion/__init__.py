"""How fast bars get in, how small they lie and how fast they come out, beside what others do, in one run."""
