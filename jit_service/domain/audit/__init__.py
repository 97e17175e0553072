"""TODO jit_service/domain/audit"""
