"""What people see on a terminal while runs go on."""
