"""TODO clients/python/jitaccess/replica"""
