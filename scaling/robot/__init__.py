"""The Unitree G1 (29 DoF) as data: figures, kinematics, and the MuJoCo model built from them."""
