"""safetensors"""
