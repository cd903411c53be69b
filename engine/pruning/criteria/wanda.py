"""wanda"""
