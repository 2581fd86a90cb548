"""Ascend's tools: what they are told (atc, runners), what they answer (logs, errors), and the devices they run on."""
