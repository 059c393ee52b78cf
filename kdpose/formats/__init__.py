"""Read other annotation formats into COCO's keypoint format; one module per format."""
