"""The formulas, one module per kind; `catalogue` imports every module of this package."""
