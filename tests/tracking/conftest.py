from child_compilation import compilation_cache

__all__ = ["compilation_cache"]
