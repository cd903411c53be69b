"""uniform"""
