# The version is that of project() in CMakeLists.txt, and the commit is git's. Packagers who build from a tarball can set
# LITEFS_COMMIT, and LITEFS_VERSION where theirs has a suffix.
find_package(Git QUIET)
set(LITEFS_VERSION "" CACHE STRING "version shown by `litefs version`, else that of project()")
set(LITEFS_COMMIT "" CACHE STRING "commit shown by `litefs version`, else that of git")
set(litefs_version "${LITEFS_VERSION}")
set(litefs_commit "${LITEFS_COMMIT}")
if(NOT litefs_version)
  set(litefs_version "${PROJECT_VERSION}")
endif()
if(GIT_FOUND AND NOT litefs_commit)
  execute_process(COMMAND ${GIT_EXECUTABLE} rev-parse HEAD
    WORKING_DIRECTORY ${PROJECT_SOURCE_DIR} OUTPUT_VARIABLE litefs_commit
    OUTPUT_STRIP_TRAILING_WHITESPACE ERROR_QUIET)
  # A build after a commit or a pull is of another commit: the file changes with each.
  execute_process(COMMAND ${GIT_EXECUTABLE} rev-parse --path-format=absolute --git-path logs/HEAD
    WORKING_DIRECTORY ${PROJECT_SOURCE_DIR} OUTPUT_VARIABLE head_log
    OUTPUT_STRIP_TRAILING_WHITESPACE ERROR_QUIET)
  if(EXISTS "${head_log}")
    set_property(DIRECTORY ${PROJECT_SOURCE_DIR} APPEND PROPERTY CMAKE_CONFIGURE_DEPENDS "${head_log}")
  endif()
endif()
