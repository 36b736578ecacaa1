"""The scikit-learn contract: classifier, regressor, parameters, validation, persistence."""
