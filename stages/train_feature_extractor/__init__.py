"""Stage ``train_feature_extractor``: the network whose features measure distances."""
