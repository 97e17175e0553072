"""TODO jit_service/rpc/audit_formats"""
