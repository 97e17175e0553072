"""TODO jit_service/domain/checks"""
