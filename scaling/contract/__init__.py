"""The one definition of what a policy sees and what its actions mean, from training to robot."""
