"""What lies in a start-up kit beside keys: texts, the software, and how it is started.

Imports the roster and how Flower's processes are called; provisioning and the command line
import it.
"""
