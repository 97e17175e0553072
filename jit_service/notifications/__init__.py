"""TODO jit_service/notifications"""
