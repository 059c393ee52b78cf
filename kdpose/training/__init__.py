"""One stage of training and the pipeline of stages."""
