"""Annotations as others write them, read into COCO's keypoint format; a file a format."""
