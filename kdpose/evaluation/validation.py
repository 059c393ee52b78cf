"""AP of the poses that a validation epoch found."""

from kdpose.data.datamodule import CocoKeypointDataModule
from kdpose.metrics.keypoint_ap import keypoint_ap
from kdpose.metrics.pose_results import Predictions, to_results


def score_validation(
    data: CocoKeypointDataModule, predictions: Predictions, threshold: float = 0.01
) -> dict[str, float | None]:
    """AP and AR of validation poses; if only a part was predicted, on that part's images.

    Args:
        data: the data module, set up.
        predictions: of its validation split.
        threshold: joint scores up to this do not enter a person's score; the codec's, so that
            validation and the final evaluation agree.

    Returns:
        The figures of :func:`keypoint_ap`.
    """
    persons = data.datasets["val"].persons
    partial = len(predictions) < len(persons)
    sigmas = data.skeleton.sigmas
    return keypoint_ap(
        data.splits["val"]["annotations"],
        to_results(predictions, sigmas, threshold=threshold, categories=persons.category),
        protocol=data.protocol,
        sigmas=sigmas,
        image_ids=sorted(set(predictions.image_id.tolist())) if partial else None,
    )
