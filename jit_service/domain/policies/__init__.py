"""TODO jit_service/domain/policies"""
