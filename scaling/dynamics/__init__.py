"""A learned, differentiable model of the robot's motion: state, network, integration, training and error card."""
