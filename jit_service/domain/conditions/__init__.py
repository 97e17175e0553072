"""TODO jit_service/domain/conditions"""
