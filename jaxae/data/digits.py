"""The handwritten digits of scikit-learn: real data without a download."""

import numpy as np

from jaxae.data.source import Raw


def digits() -> Raw:
    """1,797 images `[8,8,1]` of ten classes, raw values 0..16 (17 levels), scaled by 1/16.

    Optical Recognition of Handwritten Digits (Alpaydin & Kaynak 1998, UCI repository), the copy in
    scikit-learn. It has no official split; 1,437 train and 360 test images are chosen by
    `train_test_split(test_size=360, stratify=labels, random_state=0)`.
    """
    from sklearn.datasets import load_digits
    from sklearn.model_selection import train_test_split

    images, labels = load_digits(return_X_y=True)
    images = images.reshape(-1, 8, 8, 1).astype(np.uint8)
    train, test, train_labels, test_labels = train_test_split(
        images, labels.astype(np.int32), test_size=360, stratify=labels, random_state=0
    )
    return Raw(train, train_labels, test, test_labels, levels=17)
