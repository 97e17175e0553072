"""TODO jit_service/domain/language"""
