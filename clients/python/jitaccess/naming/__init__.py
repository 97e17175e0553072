"""TODO clients/python/jitaccess/naming"""
