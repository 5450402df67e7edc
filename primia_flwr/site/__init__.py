"""The hospital's machinery: its policy, the gate that enforces it, its log and its checks."""
