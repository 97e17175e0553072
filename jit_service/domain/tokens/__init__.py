"""TODO jit_service/domain/tokens"""
