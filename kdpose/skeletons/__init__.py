"""Joints, limbs and the names that connect skeletons."""
