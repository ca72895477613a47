"""What a model looks at and how it wears: importance and drift."""
