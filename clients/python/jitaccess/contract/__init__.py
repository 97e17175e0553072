"""TODO clients/python/jitaccess/contract"""
