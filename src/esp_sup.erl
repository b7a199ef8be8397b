%% The tree of the application. The servers below keep tables that the
%% callers' fast paths read; a restart of one means that heads are attached to,
%% and owners announce themselves, again, so they do not depend on each other.
-module(esp_sup).

-behaviour(supervisor).

-export([start_link/0]).
-export([start_default_node/0]).
-export([init/1]).

-spec start_link() -> supervisor:startlink_ret().
start_link() ->
    supervisor:start_link({local, ?MODULE}, ?MODULE, []).

%% @doc Starts the default C-node unless it runs, or is just being restarted, here
%% or under a user's own supervisor. Two callers at once are fine: the supervisor
%% takes them one after the other.
-spec start_default_node() -> ok | {error, term()}.
start_default_node() ->
    case esp_node_sup:is_running(esp) of
        true -> ok;
        false -> start_default_child()
    end.

start_default_child() ->
    Opts = application:get_env(erlangsp, default_node, #{}),
    %% temporary: a C-node that cannot be kept up must not take this tree along
    Spec0 = esp_node:child_spec(Opts#{name => esp, id => {esp_node, esp}}),
    Spec = Spec0#{restart => temporary},
    try supervisor:start_child(?MODULE, Spec) of
        {ok, _Pid} -> ok;
        {ok, _Pid, _Info} -> ok;
        {error, {already_started, _Pid}} -> ok;
        {error, {shutdown, {failed_to_start_child, _Id, Reason}}} -> {error, Reason};
        {error, Reason} -> {error, Reason}
    catch
        exit:{noproc, _} -> {error, {not_started, erlangsp}}
    end.

-spec init([]) -> {ok, {supervisor:sup_flags(), [supervisor:child_spec()]}}.
init([]) ->
    Flags = #{strategy => one_for_one, intensity => 5, period => 10},
    Children = [
        #{id => Module, start => {Module, start_link, []}}
     || Module <- [esp_nodes, esp_seq_trace, esp_log_levels, coop_names, coop_credit, coop_meter]
    ],
    {ok, {Flags, Children}}.
