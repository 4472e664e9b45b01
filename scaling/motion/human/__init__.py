"""Motion of people: skeleton files to key points, and key points to the G1 by inverse kinematics."""
