"""Weights from other sources: conversion and evaluation."""
