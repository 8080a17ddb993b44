"""What several papers share: priors, pretraining, posteriors, labelled batches."""
