"""TODO clients/python/jitaccess/jose"""
