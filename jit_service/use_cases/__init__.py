"""TODO jit_service/use_cases"""
