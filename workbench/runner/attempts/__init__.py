"""Parts of an attempt: its session, transcript, journal and grading."""
