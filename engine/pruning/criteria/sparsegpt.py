"""sparsegpt"""
