"""How a model is made, judged and exported; how anomalies are found."""
