"""TODO jit_service/domain/grants"""
